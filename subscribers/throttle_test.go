package subscribers

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func parseIP(t *testing.T, text string) netip.Addr {
	t.Helper()
	ip, err := netip.ParseAddr(text)
	if err != nil {
		t.Fatal(err)
	}
	return ip
}

func TestThrottle(t *testing.T) {
	th := newThrottle(2, 5)
	allow := func(ip string, now time.Time) bool {
		wait, ok := th.allow(now, parseIP(t, ip))
		if !ok && (wait <= 0 || wait > time.Minute) {
			t.Errorf("allow(%s) says to wait %v", ip, wait)
		}
		return ok
	}
	steps := []struct {
		ip    string
		after time.Duration
		want  bool
	}{
		{"2001:db8::1", 0, true},
		{"2001:db8::2", 0, true},
		{"2001:db8::3", 0, false}, // the same /64
		{"2001:db8:0:1::1", 0, true},
		{"203.0.113.1", 0, true},
		{"203.0.113.2", 0, true},
		{"203.0.113.3", 59 * time.Second, false}, // five altogether
		{"2001:db8::1", time.Minute, true},
	}
	for i, step := range steps {
		if got := allow(step.ip, morning.Add(step.after)); got != step.want {
			t.Errorf("step %d: allow(%s after %v) = %v, want %v", i, step.ip, step.after, got, step.want)
		}
	}
	if len(th.counts) > th.perMinute {
		t.Errorf("the throttle remembers %d networks", len(th.counts))
	}
}

func TestClientIP(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")}
	tests := []struct {
		remote string
		header []string
		want   string
	}{
		{"127.0.0.1:1", nil, "127.0.0.1"},
		{"127.0.0.1:1", []string{"203.0.113.9"}, "203.0.113.9"},
		{"127.0.0.1:1", []string{"198.51.100.1, 203.0.113.9, 10.1.2.3"}, "203.0.113.9"}, // the first was made up
		{"127.0.0.1:1", []string{"198.51.100.1", "203.0.113.9"}, "203.0.113.9"},
		{"127.0.0.1:1", []string{"nonsense"}, "127.0.0.1"},
		{"203.0.113.5:1", []string{"198.51.100.1"}, "203.0.113.5"}, // not our proxy
		{"[::ffff:127.0.0.1]:1", []string{"::ffff:203.0.113.9"}, "203.0.113.9"},
		{"[::ffff:203.0.113.5]:1", []string{"198.51.100.1"}, "203.0.113.5"}, // not our proxy, in another spelling
		{"127.0.0.1:1", []string{"::ffff:10.1.2.3"}, "10.1.2.3"},            // a proxy's own request
		{"127.0.0.1:1", []string{"198.51.100.1, ::ffff:10.1.2.3"}, "198.51.100.1"},
		{"127.0.0.1:1", []string{"203.0.113.9:4711"}, "203.0.113.9"}, // as some load balancers write it
		{"127.0.0.1:1", []string{"[2001:db8::7]:4711"}, "2001:db8::7"},
		{"127.0.0.1:1", []string{"198.51.100.1, fe80::1%eth0"}, "fe80::1"},
		{"127.0.0.1:1", []string{"198.51.100.1, unknown"}, "127.0.0.1"}, // beyond garbage all is made up
		{"127.0.0.1:1", []string{"198.51.100.1,"}, "127.0.0.1"},
		{"127.0.0.1:1", []string{"198.51.100.1, 10.0.0.256"}, "127.0.0.1"},
		{"127.0.0.1:1", []string{"203.0.113.9, 0x7f.1"}, "127.0.0.1"},
		{"127.0.0.1:1", []string{"198.51.100.1, 203.0.113.9" + strings.Repeat(", 10.0.0.1", 1000)}, "203.0.113.9"},
		{"127.0.0.1:1", []string{strings.Repeat("10.0.0.1, ", 1000) + "10.0.0.2"}, "10.0.0.1"},
	}
	for _, test := range tests {
		r := &http.Request{RemoteAddr: test.remote, Header: http.Header{"X-Forwarded-For": test.header}}
		if got := clientIP(r, proxies); got != parseIP(t, test.want) {
			t.Errorf("clientIP(%s, %q) = %v, want %s", test.remote, test.header, got, test.want)
		}
	}
}
