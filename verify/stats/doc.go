// Package stats measures how far one model's logits are from another's.
//
// Rows of logits are compared position by position, both models having read
// the same tokens (teacher forcing), over the real vocabulary, at temperature
// 1, before any bias or sampling transform. Every sum runs in float64.
//
// For a source row z and a result row z', with p and q their softmaxes:
//
//	KL       Σ p (log p − log q), nats: the gate (forward, source first)
//	reverse  Σ q (log q − log p)
//	JS       Jensen–Shannon divergence, nats, at most ln 2
//	NRMSE    ‖(z'−mean z') − (z−mean z)‖ / ‖z − mean z‖: scale free, so it sees
//	         damage where flat logits hide it from the KL
//	flip     the argmax differs (the lower index wins ties)
//
// The mean KL's one-sided 95 % upper bound comes from a block bootstrap over
// sequences, because neighbouring tokens are correlated. The bootstrap is
// seeded: the same rows give the same bound.
package stats
