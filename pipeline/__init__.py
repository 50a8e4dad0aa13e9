"""Thin steps round the library: parse, read, call, check, write atomically. Map: docs/architecture.md."""
