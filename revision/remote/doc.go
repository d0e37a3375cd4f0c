// Package remote is a client of the servers that revisions are fetched from and posted
// to: a Hub (its trails, steps, objects, devices and accounts) and a device's own
// endpoint, cgi-bin/pvr (manual: pvr clone, pvr post, pvr device; Local Experience).
// Both serve the same protocol:
//
//	GET  REPO/.pvrremote         where the rest is ([Info])
//	GET  json-get-url            the state
//	GET  objects-endpoint/SUM    where an object's content is
//	POST objects-endpoint/       announces an object: 200 send it, 409 it is there
//	POST post-url                a new revision
//
// A [Client] verifies downloads by size and SHA-256, resumes interrupted transfers, and
// gives up after a bounded number of attempts.
//
// # Authentication
//
// The first request to an origin has no token. A reply 401 or 403 names an
// authentication endpoint and a realm ([Challenge]); the client then tries, in this
// order and each once: the token kept in auth.json ([tokenStore]), that token refreshed,
// an anonymous token if the call only reads, and the user's name and password. A token
// is sent only to the origin that asked for it, and only if that origin belongs to the
// endpoint: see [errUntrusted]. Signed URLs never get one.
//
// # Errors
//
// Errors have a kind of package fault: Unreachable when there is no usable answer,
// Missing for what the remote does not hold, Digest for wrong content, BadInput for what
// the remote refuses. A refusal is a [*StatusError].
package remote
