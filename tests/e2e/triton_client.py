"""What a user of tritonclient does, against the address given: python triton_client.py HOST:PORT REQUEST."""

import json
import sys

import numpy
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException


def scored(client, image, binary):
    """The probabilities, sent and asked for as raw bytes or as JSON."""
    given = triton.InferInput("image", list(image.shape), "FP32")
    given.set_data_from_numpy(image, binary_data=binary)
    wanted = triton.InferRequestedOutput("probabilities", binary_data=binary)
    answer = client.infer("digits", [given], outputs=[wanted], request_id="seven")
    assert answer.get_response()["id"] == "seven", answer.get_response()
    assert answer.get_response()["model_version"] == "2", answer.get_response()
    return answer.as_numpy("probabilities")


def refused(what, call, *says):
    """Expects that the service refuses, in words."""
    try:
        call()
    except InferenceServerException as why:
        missing = [text for text in says if text not in str(why)]
        assert not missing, f"{what}: {missing} not in {why}"
    else:
        raise AssertionError(f"{what} was not refused")


def main():
    """Goes through the client's calls; any surprise ends it with a traceback."""
    client = triton.InferenceServerClient(sys.argv[1])
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("digits") and client.is_model_ready("digits", "2")
    assert not client.is_model_ready("faces") and not client.is_model_ready("digits", "9")
    assert client.get_server_metadata()["name"] == "bellwether-agent"
    about = client.get_model_metadata("digits")
    assert about["versions"] == ["2"], about
    assert about["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 64]}], about
    assert about["outputs"][0]["shape"] == [-1, 10], about

    with open(sys.argv[2], encoding="utf-8") as file:
        given = json.load(file)["inputs"][0]
    one = numpy.array(given["data"], numpy.float32).reshape(1, 64)
    as_bytes, as_json = scored(client, one, True), scored(client, one, False)
    assert as_bytes.shape == (1, 10) and as_bytes.argmax() == 7, as_bytes
    assert numpy.allclose(as_bytes, as_json), (as_bytes, as_json)
    many = numpy.repeat(one, 50, axis=0)
    assert (scored(client, many, True).argmax(axis=1) == 7).all()

    refused("a wrong shape", lambda: scored(client, one[:, :63].copy(), True), "[1, 63]", "[-1, 64]")
    whole = triton.InferInput("image", [1, 64], "INT32")
    whole.set_data_from_numpy(one.astype(numpy.int32))
    refused("a wrong type", lambda: client.infer("digits", [whole]), "INT32", "FP32")
    other = triton.InferInput("picture", [1, 64], "FP32")
    other.set_data_from_numpy(one)
    refused("a wrong name", lambda: client.infer("digits", [other]), "image")
    refused("no such model", lambda: client.infer("faces", [other]), "digits")
    assert scored(client, one, True).argmax() == 7
    print("all of it held")


if __name__ == "__main__":
    main()
