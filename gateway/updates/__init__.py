"""Updates for many boards: canaries first, so many at a time, halted by a rollback."""
