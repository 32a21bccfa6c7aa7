"""A vehicle as AWS IoT sees it: over mTLS with the AWS IoT SDK, on AWS and on this machine alike."""
