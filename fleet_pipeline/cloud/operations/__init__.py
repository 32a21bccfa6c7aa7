"""What is done with the whole of a fleet's cloud side: applied, adopted, rolled back, exported, taken down."""
