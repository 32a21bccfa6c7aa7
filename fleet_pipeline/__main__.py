"""`python -m fleet_pipeline` is the `fleet` command."""

from fleet_pipeline.cli.main import main

main()
