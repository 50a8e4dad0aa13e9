"""The clay head."""
