package subscribers

import (
	"net"
	"net/http"
	"net/netip"
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
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		ip = hop.Unmap()
	}
	return ip
}

func isProxy(ip netip.Addr, proxies []netip.Prefix) bool {
	for _, p := range proxies {
		if p.Contains(ip.WithZone("")) {
			return true
		}
	}
	return false
}
