"""The `ghmirror` command for operators; `main` has what can be typed.

Importing this, and asking for help, loads neither a reactor nor boto3: they come with the work.
"""
