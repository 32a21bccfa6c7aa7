"""What stands around Dagster's own processes: the gate before its webserver, its private folder, which process works on
a run.
"""
