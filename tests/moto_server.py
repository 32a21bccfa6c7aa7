"""Start moto's server, with certificates whose ids are made as AWS IoT makes them: the SHA-256 of the DER. By itself moto hashes the PEM's text."""

import sys

from moto.core.config import default_user_config
from moto.server import main

default_user_config["iot"] = {"use_valid_cert": True}
main(sys.argv[1:])
