// Octokit at work: reads what there is, and reports it as JSON.
// Run as: node octokit_client.mjs URL TOKEN

import assert from "node:assert/strict";
import { Octokit } from "@octokit/rest";

const [url, token] = process.argv.slice(2);
const silent = { debug() {}, info() {}, warn() {}, error() {} };
const connect = (auth) => new Octokit({ baseUrl: url, auth, log: silent });

async function statusOf(request) {
  try {
    return (await request).status;
  } catch (error) {
    if (error.status === undefined) throw error;
    return error.status;
  }
}

const octokit = connect(token);
const hello = { owner: "octo", repo: "hello" };
const repository = await octokit.rest.repos.get(hello);
const { data } = repository;

// the response to a validator of its own is 304, and to a wrong one it is not
const { etag } = repository.headers;
const conditional = (tag) =>
  statusOf(octokit.rest.repos.get({ ...hello, headers: { "if-none-match": tag } }));
assert.equal(await conditional(etag), 304);
assert.equal(await conditional(`"0123", ${etag}`), 304);
assert.equal(await conditional('"0123"'), 200);

// page by page along Link, and all links lead back here
const sizes = [];
const listIssues = octokit.rest.issues.listForRepo;
for await (const page of octokit.paginate.iterator(listIssues, { ...hello, per_page: 20 })) {
  sizes.push(page.data.length);
  for (const [, link] of (page.headers.link ?? "").matchAll(/<([^>]*)>/g)) {
    assert.ok(link.startsWith(`${url}/`), link);
  }
}

const issues = await octokit.paginate(listIssues, hello);
const pages = Math.ceil(issues.length / 20);
const rest = issues.length - 20 * (pages - 1);
assert.deepEqual(sizes, [...Array(pages - 1).fill(20), rest]);
const last = issues.at(-1);
const search = octokit.rest.search.issuesAndPullRequests;
const found = await octokit.paginate(search, { q: "sesame" });
for (const seen of [data.url, data.owner.url, last.url]) {
  assert.ok(seen.startsWith(`${url}/`), seen);
}
assert.ok(data.html_url.startsWith("https://github.com/"), data.html_url);
const mine = octokit.rest.repos.listForAuthenticatedUser;

console.log(
  JSON.stringify({
    login: (await octokit.rest.users.getAuthenticated()).data.login,
    repository: data.full_name,
    admin: data.permissions.admin,
    owner: (await octokit.request(data.owner.url)).data.name,
    repositories: (await octokit.paginate(mine)).map((one) => one.full_name),
    total: issues.length,
    numbers: issues.map((issue) => issue.number),
    last: last.number,
    body: (await octokit.request(last.url)).data.body,
    found: (await search({ q: "sesame", per_page: 1 })).data.total_count,
    found_numbers: found.map((issue) => issue.number),
    renamed: (await octokit.rest.repos.get({ owner: "octo", repo: "old" })).data.full_name,
    missing: await statusOf(octokit.rest.repos.get({ owner: "octo", repo: "none" })),
    refused: await statusOf(connect("unknown-1").rest.repos.get(hello)),
    scopes: repository.headers["x-oauth-scopes"].split(", "),
  }),
);
