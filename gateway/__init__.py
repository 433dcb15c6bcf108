"""Pointsman's server: the OpenAI REST API in front, vLLM-hosted experts behind.

Start at `pipeline` for the path of a request and `app` for how the parts are put together.
"""

__version__ = "0.1.0"
