"""What is said of a service's cache fits together."""

from polycdn.config.checked import Checked, table_in, texts_in


def check_deliveries(checked: Checked) -> None:
    """Names of parameters go with `query = "allow"`, and each status has one lifetime."""
    for path, service in checked.tables("service"):
        cache = table_in(service.get("cache"))
        place = (*path, "cache")
        is_allowing = cache.get("query") == "allow"
        names = texts_in(cache.get("query_names"))
        if is_allowing and not names:
            checked.complain(
                (*place, "query"),
                'query = "allow" without names',
                "`query_names` with the parameters that count",
                'add query_names = ["page"], or write query = "ignore"',
            )
        if names and not is_allowing:
            checked.complain(
                (*place, "query_names"),
                '`query_names` without query = "allow"',
                'query = "allow"',
                'write query = "allow", or remove `query_names`',
            )
        seen: set[int] = set()
        for negative_path, negative in checked.tables("negative", (place, cache)):
            status = negative.get("status")
            if isinstance(status, int) and status in seen:
                checked.complain(
                    (*negative_path, "status"), f"status {status} a second time", "each once", "remove one"
                )
            if isinstance(status, int):
                seen.add(status)
