package subscribers

import (
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// throttle counts sign-ups by the minute, each network's and all together. Its memory is bounded by the latter: beyond it
// nothing is counted, only refused.
type throttle struct {
	perNetwork, perMinute int

	mutex  sync.Mutex
	minute int64
	total  int
	counts map[netip.Prefix]int
}

func newThrottle(perNetwork, perMinute int) *throttle {
	return &throttle{perNetwork: perNetwork, perMinute: perMinute, counts: make(map[netip.Prefix]int)}
}

// allow counts one sign-up, or says after how long the next minute begins.
func (t *throttle) allow(now time.Time, ip netip.Addr) (wait time.Duration, ok bool) {
	network := networkOf(ip)
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if minute := now.Unix() / 60; minute != t.minute {
		t.minute, t.total = minute, 0
		clear(t.counts)
	}
	if t.total >= t.perMinute || t.counts[network] >= t.perNetwork {
		return time.Duration(60-now.Unix()%60) * time.Second, false
	}
	t.total++
	t.counts[network]++
	return 0, true
}

// limited is around every door at which somebody names an address. Too many from one network, or altogether, are told when
// to come again, before anything is looked at: the answer knows no address.
func (p *pages) limited(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if wait, ok := p.throttle.allow(p.now(), clientIP(r, p.settings.Proxies)); !ok {
			w.Header().Set("Retry-After", strconv.Itoa(int(wait.Seconds())))
			p.fail(w, r, http.StatusTooManyRequests)
			return
		}
		next(w, r)
	}
}

// networkOf is what one household or machine has: an IPv4 address, an IPv6 /64.
func networkOf(ip netip.Addr) netip.Prefix {
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	prefix, err := ip.WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{} // unknown addresses count as one
	}
	return prefix
}

// clientIP is who asked. X-Forwarded-For is read from its end for as long as the last word came from one of our proxies;
// everything before that was written by strangers.
func clientIP(req *http.Request, proxies []netip.Prefix) netip.Addr {
	host, _, err := net.SplitHostPort(req.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	ip = ip.Unmap()
	hops := strings.Split(strings.Join(req.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && isProxy(ip, proxies); i-- {
		hop, err := parseHop(hops[i])
		if err != nil {
			break
		}
		ip = hop
	}
	return ip
}

// parseHop reads an address as proxies write it: bare, or with a port as some load balancers do.
func parseHop(text string) (netip.Addr, error) {
	text = strings.TrimSpace(text)
	if ip, err := netip.ParseAddr(text); err == nil {
		return ip.Unmap().WithZone(""), nil
	}
	hop, err := netip.ParseAddrPort(text)
	return hop.Addr().Unmap().WithZone(""), err
}

func isProxy(ip netip.Addr, proxies []netip.Prefix) bool {
	for _, p := range proxies {
		if p.Contains(ip.WithZone("")) {
			return true
		}
	}
	return false
}
