"""A short way for small pushes and for lookups, beside ASGI, which can be left out.

Going through ASGI costs a task, an event and several dictionaries per request, three times what
a push itself costs. Every request that takes this way would get the same answer without it.
"""
