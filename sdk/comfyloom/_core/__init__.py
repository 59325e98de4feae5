"""What every floor may use, and what knows no other floor."""
