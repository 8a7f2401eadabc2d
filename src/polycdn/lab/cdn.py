"""An emulated CDN: terminates TLS, caches, forwards to the origins. Its faults are the server's."""

from polycdn.lab.cache import Cache
from polycdn.lab.exchange import Answer, Request, conditional
from polycdn.lab.spec import CdnSpec
from polycdn.lab.upstream import Origins
from polycdn.model.units import Clock


class Cdn:
    """One CDN. `wall` is real time: what it caches is not compressed."""

    def __init__(self, spec: CdnSpec, wall: Clock) -> None:
        self._name = spec.process.name
        self._cache = Cache(spec.cache_bytes_max, wall)
        self._origins = Origins(spec.origins, wall)

    async def answer(self, request: Request) -> Answer:
        """From the cache, or from an origin; ranges and conditions are worked out here."""
        if request.method == "GET":
            answer = await self._cache.get(request.target, lambda: self._origins.fetch(request))
        else:
            answer = await self._origins.fetch(request)
        return conditional(request, answer).having(via=f"1.1 {self._name}")

    def close(self) -> None:
        """Drops the connections to the origins."""
        self._origins.close()
