"""Commands for people: the console script `flowvqtalker` and helpers of the Makefile."""
