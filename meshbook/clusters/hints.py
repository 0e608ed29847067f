"""What to try after a refusal: by what the server said, and only where it said nothing telling by its code.

A 403 is a missing role, a policy, a quota or a login that was not taken: the same code, and another person to ask.
"""

from __future__ import annotations

import re

_SAID = {
    r"admission webhook .* denied": "a policy of this cluster forbids it: do as it says, or ask for an exception",
    r"failed calling webhook": "is the pod behind that webhook ready, and may the control plane reach its port?",
    r"exceeded quota|must specify \S*(limits|requests)\.": "kubectl describe resourcequota says what is left",
    r"violates PodSecurity": "the namespace's label pod-security.kubernetes.io/enforce forbids such pods",
    r"(maximum|minimum) \S+ usage per|limit to request ratio": "kubectl describe limitrange says what pods may ask for",
    r"requires a quota project|set-quota-project": "gcloud auth application-default set-quota-project PROJECT",
    r"has not been used in project|SERVICE_DISABLED": "gcloud services enable, with the API that it names",
    r"system:anonymous": "no login arrived: kubectl auth whoami says whom this server sees",
}
_CODES = {
    401: "the login has expired or the token is wrong; log in to this cluster again",
    403: "this context's user lacks a role: `meshbook rights` prints those that suffice; kubectl auth can-i asks",
    407: "the proxy wants a login: in the kubeconfig's proxy-url, or in $HTTPS_PROXY",
    429: "the server is busy, or limits how much this user may ask for: try again later",
}


def refusal_hint(code: int, message: str) -> str:
    """Return what to try after a refusal with this HTTP status; empty where nothing general helps."""
    said = (hint for pattern, hint in _SAID.items() if re.search(pattern, message, re.IGNORECASE | re.DOTALL))
    return next(said, _CODES.get(code, ""))
