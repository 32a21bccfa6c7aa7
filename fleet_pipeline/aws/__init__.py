"""The way to AWS: one client for each service, an object store, and botocore's errors as ours.

What is made there stands in `cloud`, what is read in `lake`.
"""
