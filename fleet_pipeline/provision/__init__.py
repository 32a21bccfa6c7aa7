"""AWS's resources: what is wanted, what is found, and the one way from the second to the first."""
