"""What providers say of an account: one file for each documented API.

Each has `questions`, the requests to send for an account at a moment; what answers them is read by
pure functions from bytes.
"""
