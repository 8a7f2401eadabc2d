"""Who is who: providers with their marks, companies, and what is known of who depends on whom.

`provider_table()` gives the table that is shipped, checked, once. Every row says where it comes from.
"""

from polycdn.audit.table.load import provider_table
from polycdn.audit.table.provider import Provider, Table, Use

__all__ = ["Provider", "Table", "Use", "provider_table"]
