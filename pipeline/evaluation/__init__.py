"""How generated clips are scored: one clip at a time (clips), pooled over clips (pooled), against declared targets (checks)."""
