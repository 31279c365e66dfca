"""exposition.py URL: reads a page in each of its formats, by decoders of others, and compares them.

Prints how many samples the page has, and how many of its series say when they began."""

import io
import sys
import urllib.request

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.proto import parse_length_prefixed, serialize_length_prefixed
from google.protobuf.timestamp_pb2 import DESCRIPTOR as TIMESTAMP
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics

# The messages of metrics.proto of Prometheus' client model: the fields that are used here, with their
# numbers and types.
MESSAGES = {
    "LabelPair": [("name", 1, "string"), ("value", 2, "string")],
    "Gauge": [("value", 1, "double")],
    "Counter": [("value", 1, "double"), ("created_timestamp", 3, ".google.protobuf.Timestamp")],
    "Bucket": [("cumulative_count", 1, "uint64"), ("upper_bound", 2, "double")],
    "Histogram": [("sample_count", 1, "uint64"), ("sample_sum", 2, "double"), ("bucket", 3, "repeated Bucket"), ("created_timestamp", 15, ".google.protobuf.Timestamp")],
    "Metric": [("label", 1, "repeated LabelPair"), ("gauge", 2, "Gauge"), ("counter", 3, "Counter"), ("histogram", 7, "Histogram")],
    "MetricFamily": [("name", 1, "string"), ("help", 2, "string"), ("type", 3, "int32"), ("metric", 4, "repeated Metric")],
}
PACKAGE = "io.prometheus.client"
TYPES = {0: "counter", 1: "gauge", 4: "histogram"}
CONTENT_TYPES = {
    "text": "text/plain; version=0.0.4; charset=utf-8",
    "openmetrics": "application/openmetrics-text; version=1.0.0; charset=utf-8",
    "protobuf": f"application/vnd.google.protobuf; proto={PACKAGE}.MetricFamily; encoding=delimited",
}
# What is another number each time.
VARIES = ("process_", "linkerd_ebpf_scrape_duration_seconds")


def metric_family():
    """The class of the message, made of MESSAGES."""
    file = descriptor_pb2.FileDescriptorProto(name="metrics.proto", package=PACKAGE, syntax="proto2", dependency=[TIMESTAMP.name])
    for message, fields in MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, number, kind in fields:
            field = described.field.add(name=name, number=number, label=field_label(kind))
            kind = kind.removeprefix("repeated ")
            if kind[0].islower():
                field.type = getattr(field, f"TYPE_{kind.upper()}")
            else:
                field.type = field.TYPE_MESSAGE
                field.type_name = kind if kind.startswith(".") else f".{PACKAGE}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(TIMESTAMP.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.MetricFamily"))


def field_label(kind):
    described = descriptor_pb2.FieldDescriptorProto
    return described.LABEL_REPEATED if kind.startswith("repeated ") else described.LABEL_OPTIONAL


def get(url, format):
    request = urllib.request.Request(url, headers={"Accept": CONTENT_TYPES[format]})
    with urllib.request.urlopen(request) as answer:
        assert answer.headers["Content-Type"] == CONTENT_TYPES[format], answer.headers
        return answer.read()


class Page:
    """Values and times by name and labels, types by the name of the family."""

    def __init__(self):
        self.values, self.created, self.types = {}, {}, {}

    def add(self, name, labels, value):
        if "le" in labels:
            labels = labels | {"le": float(labels["le"])}
        key = name, tuple(sorted(labels.items()))
        assert key not in self.values, f"twice: {key}"
        self.values[key] = 0 if name.startswith(VARIES) else value

    @classmethod
    def of_text(cls, families):
        page = cls()
        for family in families:
            page.types[family.name] = family.type
            for sample in family.samples:
                if sample.name == family.name + "_created":
                    page.created[family.name, tuple(sorted(sample.labels.items()))] = sample.value
                else:
                    page.add(sample.name, sample.labels, sample.value)
        return page

    @classmethod
    def of_protobuf(cls, body):
        page, made = cls(), metric_family()
        stream, again = io.BytesIO(body), io.BytesIO()
        while family := parse_length_prefixed(made, stream):
            serialize_length_prefixed(family, again)
            page.add_family(family)
        assert again.getvalue() == body, "there is more than the fields that are known"
        return page

    def add_family(self, family):
        kind = TYPES[family.type]
        name = family.name.removesuffix("_total") if kind == "counter" else family.name
        assert name not in self.types, f"twice: {name}"
        self.types[name] = kind
        for metric in family.metric:
            labels = {pair.name: pair.value for pair in metric.label}
            value = getattr(metric, kind)
            if kind == "histogram":
                for bucket in value.bucket:
                    self.add(f"{name}_bucket", labels | {"le": bucket.upper_bound}, bucket.cumulative_count)
                self.add(f"{name}_count", labels, value.sample_count)
                self.add(f"{name}_sum", labels, value.sample_sum)
            else:
                self.add(family.name, labels, value.value)
            if kind != "gauge" and value.HasField("created_timestamp"):
                self.created[name, tuple(sorted(labels.items()))] = value.created_timestamp.ToNanoseconds() / 1e9


def main(url):
    text = Page.of_text(parser.text_string_to_metric_families(get(url, "text").decode()))
    protobuf = Page.of_protobuf(get(url, "protobuf"))
    plain = Page.of_text(openmetrics.text_string_to_metric_families(get(url, "openmetrics").decode()))
    created = Page.of_text(openmetrics.text_string_to_metric_families(get(url + "?created=true", "openmetrics").decode()))
    for page in (protobuf, plain, created):
        assert page.types == text.types
        assert page.values == text.values, page.values.items() ^ text.values.items()
    assert not plain.created
    assert protobuf.created.keys() == created.created.keys()
    assert all(abs(time - created.created[key]) < 1e-3 for key, time in protobuf.created.items())
    print(len(text.values), len(protobuf.created))


main(sys.argv[1])
