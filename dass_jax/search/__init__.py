"""Finding students by predicted accuracy under a budget."""
