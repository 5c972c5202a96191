package harness

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
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

// Stopping makes it go to no address with this path that it is sent to: the page
// then has that address, which somebody copies.
func (b *Browser) Stopping(path string) *Browser {
	b.client.CheckRedirect = func(next *http.Request, _ []*http.Request) error {
		if next.URL.Path == path {
			return http.ErrUseLastResponse
		}
		return nil
	}
	return b
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
	address := reply.Request.URL
	if next, err := reply.Location(); err == nil {
		address = next
	}
	return &Page{URL: address, Status: reply.StatusCode, browser: b, root: root}
}

// Post sends a form that no page shows, as scripts of pages do.
func (b *Browser) Post(address string, values url.Values) *Page {
	b.t.Helper()
	reply, err := b.client.PostForm(address, values)
	return b.page(reply, err)
}

// Submit fills in the form with this action and sends it with what else it holds.
func (p *Page) Submit(action string, fields map[string]string) *Page {
	p.browser.t.Helper()
	return p.send(action, fields, url.Values{})
}

// Press sends the form with this action by a button that has a name and a value.
func (p *Page) Press(action, name, value string) *Page {
	p.browser.t.Helper()
	return p.send(action, nil, url.Values{name: {value}})
}

func (p *Page) send(action string, fields map[string]string, values url.Values) *Page {
	t := p.browser.t
	t.Helper()
	form := p.find(func(n *html.Node) bool { return n.Data == "form" && attribute(n, "action") == action })
	if form == nil {
		t.Fatalf("browser: %s has no form for %s", p.URL, action)
	}
	for n := range form.Descendants() {
		if n.Type == html.ElementNode && n.Data == "input" && attribute(n, "type") != "checkbox" {
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
	return p.browser.Post(target.String(), values)
}

// Words are all that the page says, with single blanks.
func (p *Page) Words() string {
	var words []string
	for n := range p.root.Descendants() {
		if n.Type == html.TextNode && n.Parent.Data != "style" {
			words = append(words, strings.Fields(n.Data)...)
		}
	}
	return strings.Join(words, " ")
}

// Attribute is one of the first element that has another with this value, empty
// without one.
func (p *Page) Attribute(with, value, name string) string {
	n := p.find(func(n *html.Node) bool { return attribute(n, with) == value })
	if n == nil {
		return ""
	}
	return attribute(n, name)
}

// Text is that of the first element with this role, empty without one.
func (p *Page) Text(role string) string {
	n := p.find(func(n *html.Node) bool { return attribute(n, "role") == role })
	if n == nil || n.FirstChild == nil {
		return ""
	}
	return n.FirstChild.Data
}

// TextOf is that of the first element of this kind, empty without one.
func (p *Page) TextOf(element string) string {
	n := p.find(func(n *html.Node) bool { return n.Data == element })
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
