package harness

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"testing"

	"golang.org/x/net/html"
)

// Browser is a web browser without scripts: cookies, redirects and forms.
type Browser struct {
	t      testing.TB
	client *http.Client
}

// NewBrowser opens an empty one.
func NewBrowser(t testing.TB) *Browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &Browser{t: t, client: &http.Client{Jar: jar, Timeout: Patience}}
}

// Page is what a browser shows.
type Page struct {
	// URL is the address after all redirects.
	URL *url.URL
	// Status is the last answer's.
	Status int

	browser *Browser
	root    *html.Node
}

// Open goes to an address.
func (b *Browser) Open(address string) *Page {
	b.t.Helper()
	reply, err := b.client.Get(address)
	return b.page(reply, err)
}

func (b *Browser) page(reply *http.Response, err error) *Page {
	b.t.Helper()
	if err != nil {
		b.t.Fatalf("browser: %v", err)
	}
	defer reply.Body.Close()
	root, err := html.Parse(reply.Body)
	if err != nil {
		b.t.Fatalf("browser: %v", err)
	}
	return &Page{URL: reply.Request.URL, Status: reply.StatusCode, browser: b, root: root}
}

// Submit fills in the form with this action and sends it with what else it holds.
func (p *Page) Submit(action string, fields map[string]string) *Page {
	t := p.browser.t
	t.Helper()
	form := p.find(func(n *html.Node) bool { return n.Data == "form" && attribute(n, "action") == action })
	if form == nil {
		t.Fatalf("browser: %s has no form for %s", p.URL, action)
	}
	values := url.Values{}
	for n := range form.Descendants() {
		if n.Type == html.ElementNode && n.Data == "input" {
			values.Set(attribute(n, "name"), attribute(n, "value"))
		}
	}
	for name, value := range fields {
		if !values.Has(name) {
			t.Fatalf("browser: the form for %s has no field %s", action, name)
		}
		values.Set(name, value)
	}
	target, err := p.URL.Parse(action)
	if err != nil {
		t.Fatalf("browser: %v", err)
	}
	reply, err := p.browser.client.PostForm(target.String(), values)
	return p.browser.page(reply, err)
}

// Text is that of the first element with this role, empty without one.
func (p *Page) Text(role string) string {
	n := p.find(func(n *html.Node) bool { return attribute(n, "role") == role })
	if n == nil || n.FirstChild == nil {
		return ""
	}
	return n.FirstChild.Data
}

func (p *Page) find(is func(*html.Node) bool) *html.Node {
	for n := range p.root.Descendants() {
		if n.Type == html.ElementNode && is(n) {
			return n
		}
	}
	return nil
}

func attribute(n *html.Node, name string) string {
	for _, one := range n.Attr {
		if one.Key == name {
			return one.Val
		}
	}
	return ""
}
