"""What Dagster shows and runs, a folder for each domain: its assets, checks, jobs, schedules and
sensors side by side.
"""
