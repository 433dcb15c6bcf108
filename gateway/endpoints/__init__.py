"""One file per group of URLs. `inference` is the data plane (raw ASGI); the rest are FastAPI routers named `api`."""
