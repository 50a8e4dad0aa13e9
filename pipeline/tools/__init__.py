"""Small commands around the pipeline: figures and tables for the documentation."""
