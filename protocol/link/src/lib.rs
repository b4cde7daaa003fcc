//! The one room that knows rumqttc: an MQTT client that speaks frames.
