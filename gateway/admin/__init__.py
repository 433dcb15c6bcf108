"""The admin API: a second application on its own port, for people who run the gateway. Serves no client's request.

It shares the process and the event loop with the data plane, so nothing here computes or waits on the loop: queries,
YAML and files are work for a few threads of its own, and so many requests are inside at once, no more.
"""
