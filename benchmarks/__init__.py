"""Speed and memory of the stages: `make bench`."""
