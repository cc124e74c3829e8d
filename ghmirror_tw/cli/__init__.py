"""The `ghmirror` command for operators; `main` has the command line.

Importing this room, or showing help, loads neither a reactor nor boto3 nor rich; each command does.
"""
