"""What must hold between tables: names, references, shares, regions, policy bounds, what each surface needs.

Works on the tree whether or not the schema accepts it, so that these faults are listed together with the
schema's: whatever has the wrong type is passed over here, because the schema complains of it.
"""

from collections.abc import Callable
from typing import Final

from polycdn.config.checked import Checked
from polycdn.config.rules_delivery import check_deliveries
from polycdn.config.rules_names import check_endpoints, check_names, check_references, check_regions
from polycdn.config.rules_policy import check_policies, check_providers
from polycdn.config.rules_purge import check_purges
from polycdn.config.rules_surfaces import check_surfaces

RULES: Final[tuple[Callable[[Checked], None], ...]] = (
    check_names,
    check_references,
    check_endpoints,
    check_providers,
    check_purges,
    check_regions,
    check_policies,
    check_surfaces,
    check_deliveries,
)


def check_rules(checked: Checked) -> None:
    """Adds every fault that lies between tables."""
    for rule in RULES:
        rule(checked)
