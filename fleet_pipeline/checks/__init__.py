"""Asset checks, one file for each thing that is watched."""
