"""Tables, figures and the self-contained page of the `report` step: `read_results` in, files out."""
