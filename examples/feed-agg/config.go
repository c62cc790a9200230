package main

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"time"

	"go.yaml.in/yaml/v3"
)

// config is the file that -config names.
type config struct {
	Listen  string   `yaml:"listen"`  // TCP address to serve HTTP on
	Refresh duration `yaml:"refresh"` // time between two fetches of a feed
	Timeout duration `yaml:"timeout"` // longest time one fetch may take
	Feeds   []string `yaml:"feeds"`   // http or https URLs
}

// duration is written as Go writes it: "90s", "5m".
type duration time.Duration

func (d *duration) UnmarshalYAML(node *yaml.Node) error {
	parsed, err := time.ParseDuration(node.Value)
	if err != nil {
		return fmt.Errorf("line %d: %w", node.Line, err)
	}
	if parsed <= 0 {
		return fmt.Errorf("line %d: duration %s is not positive", node.Line, parsed)
	}
	*d = duration(parsed)
	return nil
}

func readConfig(path string) (config, error) {
	conf := config{
		Listen:  ":8080",
		Refresh: duration(5 * time.Minute),
		Timeout: duration(10 * time.Second),
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return config{}, fmt.Errorf("read configuration: %w", err)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	decoder.KnownFields(true)
	if err := decoder.Decode(&conf); err != nil {
		return config{}, fmt.Errorf("read configuration %s: %w", path, err)
	}
	if len(conf.Feeds) == 0 {
		return config{}, fmt.Errorf("read configuration %s: feeds is empty: name at least one URL", path)
	}
	for _, feed := range conf.Feeds {
		parsed, err := url.Parse(feed)
		if err != nil {
			return config{}, fmt.Errorf("read configuration %s: feed %q: %w", path, feed, err)
		}
		if parsed.Scheme != "http" && parsed.Scheme != "https" {
			return config{}, fmt.Errorf("read configuration %s: feed %q is not an http or https URL", path, feed)
		}
	}
	return conf, nil
}
