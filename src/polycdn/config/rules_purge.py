"""What is said of purging fits together."""

from polycdn.config.checked import Checked, all_providers, table_in


def check_purges(checked: Checked) -> None:
    """One place for the secret, and authorities only for an URL of its own."""
    for path, provider in all_providers(checked):
        purge = table_in(provider.get("purge"))
        place = (*path, "purge")
        if "token_file" in purge and "token_variable" in purge:
            checked.complain(
                (*place, "token_variable"),
                "both `token_file` and `token_variable`",
                "one of them",
                "remove one",
            )
        if "header" in purge and "token_file" not in purge and "token_variable" not in purge:
            checked.complain(
                (*place, "header"),
                "a header for a secret that is nowhere",
                "`token_file` or `token_variable` beside it",
                'add token_variable = "PURGE_TOKEN"',
            )
        if "ca_file" in purge and "url" not in purge:
            checked.complain(
                (*place, "ca_file"),
                "authorities without `url`",
                "`ca_file` of the provider, which holds for its objects",
                "move it to the provider, or add `url`",
            )
