"""The real programs that the tests run against, found on PATH or fetched without root."""
