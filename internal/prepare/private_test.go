package prepare

import "testing"

func TestPrivateProxies(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ proxy, private, want string }{
		{"", "", "direct"},
		{"off", "", "direct"},
		{"http://athens", "", "http://athens,direct"},
		{"http://athens", "https://goproxy.corp.example|direct", "https://goproxy.corp.example|direct"},
		{"http://athens", "off", "off"},
	} {
		if got := (&Config{GoProxy: tc.proxy, GoPrivateProxy: tc.private}).privateProxies(); got != tc.want {
			t.Errorf("go-proxy %q, go-private-proxy %q: %q, want %q", tc.proxy, tc.private, got, tc.want)
		}
	}
}
