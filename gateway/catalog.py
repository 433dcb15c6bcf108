"""Builds the immutable catalog from settings and the environment. Looks nothing up over the network."""

from __future__ import annotations

import hashlib
from types import MappingProxyType

from gateway.costs import price_version
from gateway.language import canonical
from gateway.rewriting import rewrite_of
from gateway.settings import ExpertSettings, Settings, TimeoutSettings, secret
from gateway.types import GENERALIST, TEXT_CAPABILITIES, Catalog, Expert, Price, Timeouts, Upstream


def build(settings: Settings) -> Catalog:
    """Turn settings into a catalog.

    Raises:
        MissingSecret: an `api_key_env` names a variable that is not set.
    """
    experts = {name: _expert(name, expert, settings.timeouts) for name, expert in settings.named_experts().items()}
    generalist = experts[GENERALIST]
    # A specialist that declares a domain of the generalist's defaults takes it over.
    by_domain = {domain: expert for expert in experts.values() for domain in expert.domains}
    return Catalog(
        experts=MappingProxyType(experts),
        generalist=generalist,
        by_domain=MappingProxyType(by_domain),
        version=hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:12],
        currency=settings.currency,
        price_version=settings.price_version or _price_version(settings),
    )


def _price_version(settings: Settings) -> str:
    return price_version(settings.currency, {name: e.price for name, e in settings.named_experts().items()})


def _expert(name: str, settings: ExpertSettings, defaults: TimeoutSettings) -> Expert:
    key = secret(settings.api_key_env)
    own, price = settings.timeouts, settings.price
    return Expert(
        name=name,
        model=settings.model,
        upstreams=tuple(Upstream(url) for url in settings.upstreams),
        domains=settings.domains,
        serves=frozenset(settings.serves),
        capabilities=TEXT_CAPABILITIES if settings.capabilities is None else frozenset(settings.capabilities),
        timeouts=Timeouts(
            connect_s=own.connect_s or defaults.connect_s,
            first_token_s=own.first_token_s or defaults.first_token_s,
            idle_s=own.idle_s or defaults.idle_s,
            total_s=own.total_s or defaults.total_s,
        ),
        price=None if price is None else Price(price.input, price.output, price.cached_input),
        context_length=settings.context_length,
        max_open=settings.max_open,
        languages=frozenset(map(canonical, settings.languages)),
        adapter=settings.adapter.path if settings.adapter is not None and settings.adapter.load else None,
        rewrite=rewrite_of(settings.rewrite.system, settings.rewrite.prefix, settings.rewrite.suffix),
        authorization=None if key is None else f"Bearer {key}",
    )
