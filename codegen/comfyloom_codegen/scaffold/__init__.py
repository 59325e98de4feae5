"""What helps people to write a binding: guesses, and a look into the workflow."""
