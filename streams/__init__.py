"""Through: one file for each stage, one for the life of a batch, one that knows Faust."""
