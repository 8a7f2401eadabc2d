#!/bin/sh
# Installs the servers and tools that the benchmarks compare with, from Debian packages; needs root.
# None of the services is started, now or at the next boot: the benchmarks start what they need themselves. What was
# installed before, and how it runs, stays as it is. A package that is not to be had is named and left out.
set -eu
packages="nginx-light haproxy varnish hitch trafficserver squid wrk nghttp2-client gcc libssl-dev"
services="nginx haproxy varnish varnishncsa hitch trafficserver squid"
policy=/usr/sbin/policy-rc.d

command -v apt-get >/dev/null || { echo "no apt-get here; install by hand: $packages"; exit 2; }
[ "$(id -u)" = 0 ] || { echo "installing packages needs root; try: sudo make peers"; exit 2; }

# Asked by the package scripts before they start a service; 101 forbids it.
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

known=""
for service in $services; do
    [ -e "/lib/systemd/system/$service.service" ] && known="$known $service"
done
apt-get update -qq
for package in $packages; do
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null ||
        echo "$package could not be installed; what needs it is skipped"
done
for service in $services; do
    case " $known " in *" $service "*) continue ;; esac
    if [ -e "/lib/systemd/system/$service.service" ] && command -v systemctl >/dev/null; then
        systemctl disable --quiet "$service" 2>/dev/null || true
    fi
done
echo "peers are installed; none of their services was started or is to start at boot"
