#!/bin/sh
# Makes REFINERY_PROJECT a project on the servers of deploy/compose.yaml that watches /pictures. Does nothing when it is one.
set -eu
config=$REFINERY_PROJECT/refinery.yaml
store=${REFINERY_STORE:-s3://refinery/project}
[ ! -e "$config" ] || exit 0
bucket=${store#s3://}
python -c 'import sys; from assets.twin import make_bucket; make_bucket(*sys.argv[1:])' "${bucket%%/*}" "$AWS_ENDPOINT_URL_S3"
refinery init "$REFINERY_PROJECT" --store "$store" --endpoint "$AWS_ENDPOINT_URL_S3" --index "$OPENSEARCH_URL"
sed -i 's|^sources: \[\]$|sources: [{name: pictures, kind: folder, path: /pictures}]|' "$config"
