// go-github at work: reads what there is, and reports it as JSON.
// Run as: go run main.go URL TOKEN
package main

import (
	"context"
	"encoding/json"
	"log"
	"net/http"
	"os"
	"strings"

	"github.com/google/go-github/github"
)

type authorized struct{ token string }

func (a authorized) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	request.Header.Set("Authorization", "Bearer "+a.token)
	return http.DefaultTransport.RoundTrip(request)
}

func connect(url, token string) *github.Client {
	client, err := github.NewEnterpriseClient(url, url, &http.Client{Transport: authorized{token}})
	check(err)
	return client
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func status(response *github.Response, err error) int {
	if response == nil {
		log.Fatal(err)
	}
	return response.StatusCode
}

func main() {
	url, token := os.Args[1], os.Args[2]
	ctx, client := context.Background(), connect(url, token)
	page := github.ListOptions{PerPage: 20}

	user, response, err := client.Users.Get(ctx, "")
	check(err)
	scopes := strings.Split(response.Header.Get("X-OAuth-Scopes"), ", ")
	if response.Rate.Remaining <= 0 || response.Rate.Limit != 5000 {
		log.Fatalf("rate: %v", response.Rate)
	}
	repository, _, err := client.Repositories.Get(ctx, "octo", "hello")
	check(err)

	numbers := []int{}
	options := &github.IssueListByRepoOptions{ListOptions: page}
	for {
		issues, response, err := client.Issues.ListByRepo(ctx, "octo", "hello", options)
		check(err)
		for _, issue := range issues {
			numbers = append(numbers, issue.GetNumber())
		}
		if response.NextPage == 0 {
			break
		}
		options.Page = response.NextPage
	}
	last := numbers[len(numbers)-1]
	issue, _, err := client.Issues.Get(ctx, "octo", "hello", last)
	check(err)
	owner, _, err := client.Users.Get(ctx, "octo")
	check(err)

	names := []string{}
	repositories, _, err := client.Repositories.List(ctx, "", nil)
	check(err)
	for _, one := range repositories {
		names = append(names, one.GetFullName())
	}
	foundNumbers := []int{}
	search := &github.SearchOptions{ListOptions: page}
	total := 0
	for {
		found, response, err := client.Search.Issues(ctx, "sesame", search)
		check(err)
		total = found.GetTotal()
		for _, issue := range found.Issues {
			foundNumbers = append(foundNumbers, issue.GetNumber())
		}
		if response.NextPage == 0 {
			break
		}
		search.Page = response.NextPage
	}
	renamed, _, err := client.Repositories.Get(ctx, "octo", "old")
	check(err)
	_, missing, err := client.Repositories.Get(ctx, "octo", "none")
	missingStatus := status(missing, err)
	_, refused, err := connect(url, "unknown-1").Repositories.Get(ctx, "octo", "hello")

	check(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"login":         user.GetLogin(),
		"repository":    repository.GetFullName(),
		"admin":         repository.GetPermissions()["admin"],
		"owner":         owner.GetName(),
		"repositories":  names,
		"total":         len(numbers),
		"numbers":       numbers,
		"last":          last,
		"body":          issue.GetBody(),
		"found":         total,
		"found_numbers": foundNumbers,
		"renamed":       renamed.GetFullName(),
		"missing":       missingStatus,
		"refused":       status(refused, err),
		"scopes":        scopes,
	}))
}
