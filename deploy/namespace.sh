#!/bin/sh
# Creates the namespace, or sets its retention where it exists, and registers Abeyance's search attributes.
# Running it again changes nothing. It reads TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, RETENTION and SEARCH_ATTRIBUTES.
set -eu

# Name=Type, separated by spaces: those of abeyance/attributes.py, unless others are given.
ours="AbeyanceAgent=Keyword AbeyanceState=Keyword AbeyanceOpen=Int AbeyanceApprovals=KeywordList"
search_attributes="${SEARCH_ATTRIBUTES:-$ours}"
attempts="${ATTEMPTS:-60}"

# Runs a command until it succeeds; its words are shown only when the last attempt has failed too.
patiently() {
    count=1
    until output=$("$@" 2>&1); do
        if [ "$count" -ge "$attempts" ]; then
            echo "Gave up after $count attempts: $*" >&2
            echo "$output" >&2
            return 1
        fi
        count=$((count + 1))
        sleep 1
    done
}

patiently temporal operator cluster health

# These commands do not take the namespace from the environment.
if temporal operator namespace describe --namespace "$TEMPORAL_NAMESPACE" >/dev/null 2>&1; then
    temporal operator namespace update --namespace "$TEMPORAL_NAMESPACE" --retention "$RETENTION"
else
    temporal operator namespace create --namespace "$TEMPORAL_NAMESPACE" --retention "$RETENTION"
fi

# The server needs some seconds until all of it knows a new namespace; nobody should be let in before.
patiently temporal workflow count --namespace "$TEMPORAL_NAMESPACE"

for attribute in $search_attributes; do
    if ! patiently temporal operator search-attribute create --namespace "$TEMPORAL_NAMESPACE" \
        --name "${attribute%%=*}" --type "${attribute#*=}"; then
        echo "Abeyance works without its search attributes too; \`starter.py setup\` says what is lost." >&2
        break
    fi
done

echo "Namespace $TEMPORAL_NAMESPACE is ready; closed runs are kept for $RETENTION."
