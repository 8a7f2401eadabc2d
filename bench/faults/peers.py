"""Configs of the peers. A setup has `folder`, `port`, `upstream_ports`, `ca_file` and `is_caching`."""

from typing import Any

from stage import HOSTNAME

TYPES = "type.googleapis.com/envoy.extensions"


def nginx_config(setup: Any) -> str:
    """Passive failover to a backup server, stale answers on errors, events unbuffered."""
    first, *others = setup.upstream_ports
    backups = " ".join(f"server 127.0.0.1:{port} backup;" for port in others)
    scheme = "https" if setup.ca_file else "http"
    tls = f"""
    proxy_ssl_verify on; proxy_ssl_trusted_certificate {setup.ca_file};
    proxy_ssl_name {HOSTNAME}; proxy_ssl_server_name on;""" if setup.ca_file else ""  # fmt: skip
    cache = """
      proxy_cache kept; proxy_cache_lock on; proxy_cache_revalidate on; proxy_cache_background_update on;
      proxy_cache_use_stale error timeout invalid_header updating http_500 http_502 http_503 http_504;
    """ if setup.is_caching else ""  # fmt: skip
    return f"""
user root; worker_processes 2; daemon off; pid {setup.folder}/pid; error_log {setup.folder}/e.log error;
events {{ worker_connections 2048; }}
http {{
  access_log off; sendfile on; tcp_nopush on;
  client_body_temp_path {setup.folder}/tb; proxy_temp_path {setup.folder}/tp;
  fastcgi_temp_path {setup.folder}/tf; uwsgi_temp_path {setup.folder}/tu; scgi_temp_path {setup.folder}/ts;
  proxy_cache_path {setup.folder}/cache keys_zone=kept:16m max_size=1g use_temp_path=off;
  upstream both {{
    zone both 256k;
    server 127.0.0.1:{first} max_fails=2 fail_timeout=2s;
    {backups}
    keepalive 64;
  }}
  server {{
    listen 127.0.0.1:{setup.port};
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;{tls}
    proxy_connect_timeout 1s; proxy_read_timeout 2s; proxy_send_timeout 5s;
    proxy_next_upstream error timeout invalid_header http_500 http_502 http_503 http_504;
    proxy_next_upstream_tries {len(setup.upstream_ports)};
    location / {{ proxy_pass {scheme}://both;{cache} }}
    location /chat {{ proxy_pass {scheme}://both; proxy_buffering off; }}
  }}
}}
"""


def haproxy_config(setup: Any) -> str:
    """Active checks, errors of live traffic counted, everything retryable retried on another server."""
    servers = "".join(
        f"\n  server s{place} 127.0.0.1:{port} weight {255 if place == 0 else 1}"
        for place, port in enumerate(setup.upstream_ports)
    )
    tls = f" ssl verify required ca-file {setup.ca_file} verifyhost {HOSTNAME}" if setup.ca_file else ""
    cache, store = "", ""
    if setup.is_caching:
        cache = "cache kept\n  total-max-size 512\n  max-object-size 30000000\n  max-age 60\n"
        store = "  http-request cache-use kept\n  http-response cache-store kept\n"
    return f"""
global
  nbthread 2
  maxconn 4000
defaults
  mode http
  timeout connect 1s
  timeout client 30s
  timeout server 2s
  timeout queue 2s
  retries 3
  option redispatch 1
  option http-keep-alive
  http-reuse safe
{cache}
frontend in
  bind 127.0.0.1:{setup.port}
  default_backend both
backend both
  balance roundrobin
  retry-on all-retryable-errors
  http-request disable-l7-retry if METH_POST
{store}  option httpchk GET /probe
  default-server check inter 500 fall 2 rise 2 observe layer7 error-limit 5 on-error mark-down{tls}{servers}
"""


def varnish_config(setup: Any) -> str:
    """Probes, a fallback director, one retry on the other backend, bodies buffered whole."""
    named = [(f"s{place}", port) for place, port in enumerate(setup.upstream_ports)]
    passes = 'req.method == "POST" || req.url ~ "^/chat"' if setup.is_caching else "true"
    backends = "".join(
        f"""
backend {name} {{
  .host = "127.0.0.1"; .port = "{port}"; .probe = well;
  .connect_timeout = 1s; .first_byte_timeout = 2s; .between_bytes_timeout = 2s;
}}"""
        for name, port in named
    )
    added = " ".join(f"both.add_backend({name});" for name, _ in named)
    return f"""vcl 4.1;
import directors;
probe well {{ .url = "/probe"; .interval = 500ms; .timeout = 1s; .window = 3; .threshold = 2; .initial = 2; }}
{backends}
sub vcl_init {{
  new both = directors.fallback();
  {added}
}}
sub vcl_recv {{
  set req.backend_hint = both.backend();
  if ({passes}) {{ return (pass); }}
}}
sub vcl_backend_fetch {{
  if (bereq.retries > 0) {{ set bereq.backend = s1; }}
}}
sub vcl_backend_response {{
  if (beresp.status >= 500 && bereq.method != "POST" && bereq.retries < 1) {{ return (retry); }}
  if (bereq.url !~ "^/chat") {{ set beresp.do_stream = false; }}
  set beresp.grace = 10m;
}}
sub vcl_backend_error {{
  if (bereq.method != "POST" && bereq.retries < 1) {{ return (retry); }}
}}
"""


def envoy_config(setup: Any) -> dict[str, Any]:
    """Two priorities, retries on the other one, outlier detection and active checks. No cache."""
    reading = {"retry_on": "5xx,reset,connect-failure,refused-stream", "num_retries": 2}
    reading |= {"per_try_timeout": "2s"}
    other = {"name": "envoy.retry_priorities.previous_priorities", "typed_config": {
        "@type": f"{TYPES}.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
        "update_frequency": 1}}  # fmt: skip
    events = {"retry_on": "5xx,connect-failure,refused-stream", "num_retries": 2, "retry_priority": other}
    endless = {"cluster": "both", "timeout": "0s", "retry_policy": events}
    routes = [
        {"match": {"prefix": "/", "headers": [{"name": ":method", "string_match": {"exact": "POST"}}]},
         "route": {"cluster": "both", "timeout": "8s", "retry_policy": {
             "retry_on": "connect-failure", "num_retries": 2, "retry_priority": other}}},
        {"match": {"prefix": "/chat"}, "route": endless},
        {"match": {"prefix": "/patch"}, "route": endless},
        {"match": {"prefix": "/"}, "route": {
            "cluster": "both", "timeout": "8s", "retry_policy": reading | {"retry_priority": other}}},
    ]  # fmt: skip
    manager = {
        "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
            "@type": f"{TYPES}.filters.http.router.v3.Router"}}],
    }  # fmt: skip
    cluster: dict[str, Any] = {
        "name": "both",
        "type": "STATIC",
        "connect_timeout": "1s",
        "outlier_detection": {"consecutive_5xx": 3, "interval": "0.5s", "base_ejection_time": "2s"},
        "health_checks": [{"timeout": "1s", "interval": "0.5s", "unhealthy_threshold": 2,
                           "healthy_threshold": 2, "http_health_check": {"path": "/probe"}}],
        "load_assignment": {"cluster_name": "both", "endpoints": [
            {"priority": rank, "lb_endpoints": [{"endpoint": {"address": _address(port)}}]}
            for rank, port in enumerate(setup.upstream_ports)]},
    }  # fmt: skip
    if setup.ca_file:
        cluster["transport_socket"] = {"name": "tls", "typed_config": {
            "@type": f"{TYPES}.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": HOSTNAME,
            "common_tls_context": {
                "validation_context": {"trusted_ca": {"filename": setup.ca_file}}}}}  # fmt: skip
    listener = {"name": "in", "address": _address(setup.port), "filter_chains": [
        {"filters": [{"name": "http", "typed_config": manager}]}]}  # fmt: skip
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def caddy_config(setup: Any) -> str:
    """First available, tried for 5 s, with passive and active checks. No cache."""
    upstreams = " ".join(f"127.0.0.1:{port}" for port in setup.upstream_ports)
    tls = f"""tls
        tls_server_name {HOSTNAME}
        tls_trust_pool file {setup.ca_file}""" if setup.ca_file else ""  # fmt: skip
    return f"""{{
  admin off
  auto_https off
  persist_config off
}}
http://127.0.0.1:{setup.port} {{
  reverse_proxy {upstreams} {{
    lb_policy first
    lb_try_duration 5s
    lb_try_interval 100ms
    fail_duration 2s
    max_fails 2
    unhealthy_status 5xx
    health_uri /probe
    health_interval 500ms
    health_timeout 1s
    flush_interval -1
    transport http {{
      dial_timeout 1s
      response_header_timeout 2s
      {tls}
    }}
  }}
}}
"""


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
