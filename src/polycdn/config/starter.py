"""The commented config that `polycdn init` writes. It passes `polycdn check` as it is."""

from typing import Final

STARTER: Final = """\
# polycdn.toml: what polycdn watches, and how it steers. `polycdn check` checks it, `polycdn up` starts it.
# Addresses and names here are examples; put your own in their place.
#
# A quantity is a text with its unit ("10s", "5m", "30%", "10 Gbit/s", "20 MiB", "0.08/GiB"),
# or a whole number under the key with the unit at its end (dwell_ms = 60000).
# ${VAR} stands for a variable of the environment. Secrets are named by file and never copied.

# Where journals, plans and keys are kept. Default: $XDG_STATE_HOME/polycdn, or /var/lib/polycdn for root.
# state_dir = "/var/lib/polycdn"

# --------------------------------------------------------------------------------------------------
# Who can carry the traffic. The order in the service below is the order of preference.

[[provider]]
name = "cdn-a"
kind = "cdn"                          # cdn, cloud, or edge (an edge of your own)
cname = "www.example.com.cdn-a.example"   # steered to, and probed, by name ...
capacity = "10 Gbit/s"                # or "20000 rps"; left out = no limit
cost = "0.02/GiB"
# ceiling = "80%"                     # never more than this share
# floor = "5%"                        # never less while it is up: keeps its caches warm
# purge = { url = "https://api.cdn-a.example/purge?u={url}", token_variable = "CDN_A_KEY" }

[[provider]]
name = "cdn-b"
kind = "cdn"
addresses = ["192.0.2.10", "2001:db8::10"]   # ... or by address
capacity = "4 Gbit/s"
cost = "0.03/GiB"

[[provider]]
name = "own-edge"
kind = "edge"
addresses = ["198.51.100.20"]
capacity = "2000 rps"

# --------------------------------------------------------------------------------------------------
# Where users are. The first region is the default one: it takes whoever fits no other.

[[region]]
name = "world"
# demand = "2 Gbit/s"                 # expected traffic, until it is measured

# [[region]]
# name = "europe"
# countries = ["DE", "FR", "NL"]
# prefixes = ["203.0.113.0/24"]       # the longest match wins

# --------------------------------------------------------------------------------------------------
# What is kept up.

[[service]]
name = "www"
hostname = "www.example.com"
origin = "https://origin.example.com"
providers = ["cdn-a", "cdn-b", "own-edge"]

# What vantages fetch through every provider and from the origin, and what a good answer is.
[[service.object]]
path = "/health.txt"
expect = { status = 200, content_type = "text/plain", contains = "ok" }
# expect = { sha256 = "...", size = "20 MiB", headers = { x-app = "shop" } }

# [service.cache]                     # what edges keep; what RFC 9111 allows without this table
# negative = [{ status = 404, ttl = "30s" }]
# query = "sort"                      # keep, sort, ignore, or allow with query_names = [...]
# stale_if_error = "1h"
# enabled = false                     # keep nothing

# [service.forwarded]                 # what edges tell upstreams of clients
# style = "both"                      # x-forwarded, forwarded (RFC 7239), both or none
# trust_client = true                 # clients are proxies of yours

# [service.policy]                    # what differs from [policy] for this service
# rule = "cost"

# --------------------------------------------------------------------------------------------------
# How to steer. Everything here may be left out; these are the defaults.

[policy]
rule = "priority"                     # priority, weighted, latency or cost
on_total_loss = "all"                 # all, last_good or own_edge: whom to serve when all look down
probe_interval = "1s"                 # between two looks of one vantage at one provider
probe_deadline = "5s"
false_alarm = "30d"                   # at most one false alarm of a provider in this time
move_max = "30%"                      # a minute; a provider that is down is left at once
dwell = "1m"                          # between two moves
ttl_calm = "60s"
ttl_doubt = "10s"                     # from the first doubt

# --------------------------------------------------------------------------------------------------
# From where providers are looked at. With three, one that lies or is blind moves nobody.

[[vantage]]
name = "here"
# source_address = "192.0.2.77"

# [[vantage]]
# name = "elsewhere"
# remote = true                       # runs `polycdn vantage` on another machine
# key_file = "elsewhere.key"          # made with `openssl rand -hex 32`

# --------------------------------------------------------------------------------------------------
# Where plans go.

[[surface]]
name = "feed"
kind = "feed"                         # the plan as JSON over HTTP
listen = "127.0.0.1:8461"

# [[surface]]
# name = "ns"
# kind = "dns"                        # a nameserver that answers by plan
# dns = ["0.0.0.0:53"]
# zone = { apex = "example.com", name_servers = ["ns1.example.com"], mailbox = "hostmaster@example.com" }

# [[surface]]
# name = "edge"
# kind = "edge"                       # a reverse proxy that walks the plan's order
# http = ["0.0.0.0:80"]
# https = ["0.0.0.0:443"]
# certificates = [{ cert_file = "www.pem", key_file = "www.key" }]
# memory = "1 GiB"                    # the cache; of a disk tier it survives restarts
# disk = { path = "/var/cache/polycdn", size = "100 GB" }
# admin = { listen = "127.0.0.1:9180" }   # /metrics, /healthz, /readyz, purge
# access_log = { path = "access.log", sample = "1%" }
"""
