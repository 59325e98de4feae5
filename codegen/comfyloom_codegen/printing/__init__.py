"""Python source from the model of a module, and facts read back from such source."""
